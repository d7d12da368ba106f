"""What every HTTP request goes through, whichever door it is for."""
