"""The wire format: hushword.proto and the code made from it (`make proto`)."""
