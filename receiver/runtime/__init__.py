"""How ``receiver serve`` listens, stops, runs workers, and looks after the processes beside it."""
