"""Mutation testing: applies small changes to the code, one at a time, and checks that tests fail. See README.md."""
