"""What Spool costs, measured against its peers and against what is physically possible. One file per question."""
