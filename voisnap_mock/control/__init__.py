"""The mock's own routes: health at the root, everything else below `/__voisnap/`."""
