# frozen_string_literal: true

require_relative "lib/kino/version"

Gem::Specification.new do |spec|
  spec.name = "kino-uring"
  spec.version = Kino::VERSION
  spec.summary = "A Rack server that runs apps in Ractors, on io_uring"
  spec.description = "Serves Rack 3 apps from parallel Ractors, or from threads, over libkino: " \
                     "an HTTP server library in C on io_uring."
  spec.authors = ["The Kino authors"]
  spec.license = "MIT"
  spec.required_ruby_version = ">= 3.3"
  spec.require_paths = ["lib"]
  spec.files = Dir.glob(%w[ext/**/*.{c,h,rb} lib/**/*.rb exe/* examples/**/* README.md],
                        base: __dir__)
  spec.bindir = "exe"
  spec.executables = %w[kino kino-uring]
  spec.extensions = ["ext/kino/extconf.rb"]
  spec.metadata["rubygems_mfa_required"] = "true"

  spec.add_dependency "rack", "~> 3.0"
end
