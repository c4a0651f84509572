"""What is said of a run: table rows, CSV text and sentences made of outcomes. No file, no print."""
