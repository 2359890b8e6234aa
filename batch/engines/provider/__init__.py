"""Batch APIs of providers: answers at half the price that come hours later."""
