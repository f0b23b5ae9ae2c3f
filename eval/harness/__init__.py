"""Any system × any manifest × any metric or study, resumable, with nothing imputed."""
