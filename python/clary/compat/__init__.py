"""Modules that other attention packages' callers import, on clary. clary.enable() puts them under those packages' names."""
