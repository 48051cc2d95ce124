"""In the place of a chat gateway's session store."""
