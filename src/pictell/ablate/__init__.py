"""What each choice brings: a base experiment and its variations, trained, scored and compared."""
