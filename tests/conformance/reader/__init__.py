"""Readers of partitions on both brokers, and on scripted ones that fail in every way."""
