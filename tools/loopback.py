"""The liblsl configuration of benchmarks and demos."""

#: Keeps Lab Streaming Layer on this machine, and liblsl quiet.
LOOPBACK = """[multicast]
ResolveScope = machine
[ports]
IPv6 = disable
[lab]
KnownPeers = {127.0.0.1}
[log]
level = -3
"""
