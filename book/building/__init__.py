"""How the book is built: sources, executing, ledger, reference, publishing, printing."""
