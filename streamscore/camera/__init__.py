"""From frames as a camera sends them to samples of all its lights."""
