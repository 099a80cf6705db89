"""From results to what people read: words, tables, figures, one page."""
