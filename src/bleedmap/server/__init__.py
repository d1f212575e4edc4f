"""In the hospital: receive head CTs, segment them, send the results where they belong, and show them to readers."""
