"""Result files and their checks, and the web and Markdown pages generated from them."""
