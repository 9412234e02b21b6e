"""The HTTPS side: creates, reads and steers jobs; holds no state."""
