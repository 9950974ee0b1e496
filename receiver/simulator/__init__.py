"""The provider that ``receiver simulate`` is."""
