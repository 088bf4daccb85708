"""De-identification by the basic profile of PS3.15 annex E; the same key gives the same UIDs and IDs."""
