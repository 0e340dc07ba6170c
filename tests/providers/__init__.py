"""Whom the tests sign in with: a real OpenID provider, and a Discourse that speaks its documented protocol."""
