"""Parts of the script that times the potential."""
