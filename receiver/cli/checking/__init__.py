"""What ``receiver check`` looks at."""
