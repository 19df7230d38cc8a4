"""The listening study (SingSong §5): which of two accompaniments fits a singing better?"""
