"""`plan`: what a device can and cannot do with a network, estimated before anything is built.

Nothing is run and nothing is measured here; the formulas are in docs/devices.md.
"""
