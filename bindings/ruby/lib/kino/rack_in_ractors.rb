# frozen_string_literal: true

module Kino
  # Makes Rack usable in Ractors: its autoloads need the main Ractor, and many of its constants and
  # module-level instance variables are not frozen.
  module RackInRactors
    # In the main Ractor, before the first other one begins.
    #
    # @return [void]
    def self.prepare
      return unless defined?(::Rack)

      modules = load_all(::Rack, [])
      share_ip_filter
      modules.each { share_state(_1) }
    end

    # Every module under Rack, by reading every constant: that also loads what is autoloaded.
    def self.load_all(mod, found)
      return found if found.include?(mod)

      found << mod
      mod.constants(false).each do |name|
        value = constant(mod, name)
        load_all(value, found) if value.is_a?(Module) && value.name&.start_with?("Rack::")
      end
      found
    end

    # Some of Rack needs gems of its own, which nobody has who does not use it.
    def self.constant(mod, name)
      mod.const_get(name, false)
    rescue LoadError, NameError
      nil
    end

    # The default is a lambda that captures a Regexp: frozen, it can be shared with the lambda.
    def self.share_ip_filter
      filter = ::Rack::Request.ip_filter
      return if Ractor.shareable?(filter)

      locals = filter.binding
      return unless locals.local_variable_defined?(:trusted_proxies)

      Ractor.make_shareable(locals.local_variable_get(:trusted_proxies))
    end

    def self.share_state(mod)
      values = mod.constants(false).map { constant(mod, _1) } +
               mod.instance_variables.map { mod.instance_variable_get(_1) }
      values.each { Ractor.make_shareable(_1) unless Shareability.blocker(_1) }
    end
    private_class_method :load_all, :constant, :share_ip_filter, :share_state
  end
end
