"""Pure flax.linen networks and their losses. They know neither gin nor data."""
