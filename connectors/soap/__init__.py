"""Suppliers that answer operations of SOAP, as their WSDL describes them."""
