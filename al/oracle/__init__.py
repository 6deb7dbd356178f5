"""The oracle: all-atom dynamics that answers what a chosen frame does next."""
