"""What the tests stand on: a clock that is moved, a real receiver, a shop. Nothing here stands in for our own code."""
