"""What the server's processes do: complete studies, segment, deliver, delete by age; and what keeps them running."""
