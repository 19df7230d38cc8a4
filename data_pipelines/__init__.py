"""The Beam job that turns a folder of songs into token records."""
