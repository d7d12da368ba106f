"""Tests of Lepton."""
