"""Does attention look at the right place? The numbers behind `pictell evaluate --attention`."""
