"""What people keep live sessions in, each behind the same few methods (`port.Subject`)."""
