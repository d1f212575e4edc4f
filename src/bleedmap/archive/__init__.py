"""Many studies: find them, claim them one by one, segment them in several processes, keep a table of all."""
