"""placeholder"""
__distribution__ = "taskhub"
