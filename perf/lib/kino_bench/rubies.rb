# frozen_string_literal: true

require "open3"

module KinoBench
  # The one Ruby that every Ruby server runs on.
  module Rubies
    OLDEST = Gem::Version.new("4.0")
    FINDER = File.join(ROOT, "tools/rubies")

    def self.newest
      newest = Open3.capture2(FINDER).first.lines.map { _1.split.first }
                    .select { version(_1) >= OLDEST }.max_by { version(_1) }
      newest or raise Failure, "tools/rubies finds no Ruby >= #{OLDEST}; name one with --ruby PATH"
    rescue Errno::ENOENT
      raise Failure, "#{FINDER} is missing; name a Ruby with --ruby PATH"
    end

    def self.version(ruby) = Gem::Version.new(ask(ruby, "print RUBY_VERSION"))

    def self.description(ruby)
      ask(ruby, "print RUBY_DESCRIPTION, RubyVM::YJIT.enabled? ? '' : ' (no YJIT)'", "--yjit")
    end

    def self.ask(ruby, question, *flags)
      answer, status = Open3.capture2({ "RUBYOPT" => nil }, ruby, "--disable=gems", *flags, "-e",
                                      question, err: File::NULL)
      status.success? ? answer : raise(Failure, "#{ruby} does not run")
    rescue Errno::ENOENT, Errno::EACCES
      raise Failure, "#{ruby} is no Ruby"
    end
    private_class_method :ask
  end
end
