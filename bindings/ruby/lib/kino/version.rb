# frozen_string_literal: true

module Kino
  # The version of the gem, and of the libkino that is compiled into it.
  VERSION = "0.1.0"
end
