"""Result files: their schema and its check, and the page and the Markdown made of them."""
