"""Alerts as messages of Slack. See README.md."""

from .target import Slack, SlackSettings

__all__ = ["Slack", "SlackSettings"]
