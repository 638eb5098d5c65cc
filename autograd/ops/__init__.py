"""The primitives, one declaration each."""
