"""The rules of reservations: pure; rows, holds, commands and time in, decisions out (docs/reservations.md)."""
