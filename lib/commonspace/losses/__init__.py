"""Losses: functions that take tensors and return one scalar to be minimised."""

from commonspace.losses.correlation import correlation_loss

__all__ = ["correlation_loss"]
