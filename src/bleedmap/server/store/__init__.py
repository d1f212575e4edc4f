"""The database of the server: its tables, the queue of jobs, the studies and their order, the audit."""
