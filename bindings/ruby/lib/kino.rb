# frozen_string_literal: true

# Kino's own gem has a lib/kino.rb and a module Kino, too. (Bundler may have read our version.)
if defined?(Kino::VERSION)
  there = Kino.const_source_location(:VERSION).first
  unless File.identical?(there, File.expand_path("kino/version.rb", __dir__))
    raise LoadError, "Kino is loaded already, from #{there}: the gems kino and kino-uring both " \
                     "define it, so keep only one of them in the Gemfile"
  end
end

# A Rack server that runs an app in Ractors, or in threads, over io_uring.
#
#     Kino::Server.run(->(env) { [200, {}, ["Hello"]] }, port: 9292, mode: :threaded)
#
# {Kino::Server} is all there is to it; the rest serves it.
module Kino
  # Raised when a server cannot start or go on; the message names cause and remedy.
  class Error < StandardError; end

  # Raised for mode :ractor when the app cannot be shared among Ractors; names what is in the way.
  class UnshareableAppError < Error; end
end

require_relative "kino/version"
begin
  # A checkout keeps one extension for each Ruby; an installed gem has the one of its own.
  require_relative "kino/#{RbConfig::CONFIG.fetch('ruby_version')}/kino_ext"
rescue LoadError
  require "kino/kino_ext"
end
require_relative "kino/input"
require_relative "kino/error_stream"
require_relative "kino/body"
require_relative "kino/headers"
require_relative "kino/worker"
require_relative "kino/crew"
require_relative "kino/parallelism"
require_relative "kino/options"
require_relative "kino/shareability"
require_relative "kino/rack_in_ractors"
require_relative "kino/fork"
require_relative "kino/server"
