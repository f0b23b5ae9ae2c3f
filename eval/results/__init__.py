"""Result files: the one format that the harness writes and the leaderboard reads."""
