"""The decisions of the engine, pure. See README.md for the map; `hub.engine` drives them."""
