"""How ``receiver serve`` listens, stops, runs workers, and supervises its child processes."""
