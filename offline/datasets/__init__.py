"""Recordings of labs and papers, found in a folder and read with their labels; a kind of set is a file here."""
