"""Whether the tests notice mistakes: small changes of the code, one at a time, and who finds them. See README.md."""
