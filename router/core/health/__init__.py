"""Who is alive and yet should get no calls: failing, or far slower than its like. Pure: times come from outside."""
