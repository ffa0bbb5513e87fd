"""Tests against real Lab Streaming Layer on loopback, real ZeroMQ and real processes."""
